"""What a release is held to: its files are built, checked, installed apart, tried and audited."""
