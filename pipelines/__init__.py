"""The verbs as plain functions: path in, path out."""
