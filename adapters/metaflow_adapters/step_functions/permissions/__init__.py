"""What roles and deployers must be permitted, and who may assume the roles."""
