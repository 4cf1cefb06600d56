"""The process that runs the flow file in order to compile it."""
