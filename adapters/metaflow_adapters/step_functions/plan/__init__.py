"""What a flow becomes on Step Functions, as plain data: nodes, names. Imports no library of AWS."""
