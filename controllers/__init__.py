"""The built-in controls, one a file. They are found by name through the registry."""
