"""The deployers of ``Deployer("flow.py")`` and what they return."""
