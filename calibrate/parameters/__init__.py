"""What can be fitted: every parameter by name, and the configuration that a fit starts from, the guide's among them.

In: names, a configuration file. Out: the parameters' facts, a starting configuration.
Uses: records, sim.
"""
