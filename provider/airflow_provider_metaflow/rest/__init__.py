"""Talks to Airflow's REST API v2 from outside of Airflow. Imports neither Airflow nor, but for settings, Metaflow."""
