"""Metaflow's side of the orchestrators.

Step decorator and task runner travel in every code package and run in tasks, so they import only the standard
library and Metaflow. The command-line group is loaded at deploy time only.
"""
