"""The Amazon States Language, and JSONata inside of it, as typed data."""
