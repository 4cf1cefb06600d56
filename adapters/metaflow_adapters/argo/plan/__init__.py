"""What a flow becomes on Argo Workflows, as plain data: templates, tasks, names. Imports no library of Argo's."""
