"""What `make quick`, `make test` and `make test-extended` run beside pytest: tools, builds, coverage and figures."""
