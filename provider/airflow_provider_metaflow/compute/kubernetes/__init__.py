"""Steps as pods of Kubernetes."""
