"""roofline-v4: layers of any kind, experts and low precision: model, columns, compiled kernel, parameters."""
