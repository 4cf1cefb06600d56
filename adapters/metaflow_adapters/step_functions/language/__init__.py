"""The Amazon States Language, and JSONata inside of it, as frozen typed data."""
