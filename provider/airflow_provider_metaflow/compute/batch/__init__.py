"""Steps as jobs of AWS Batch."""
