"""Our speed against that of other libraries on the same work; nothing else in the package imports this."""
