"""What others call the things that we name: wire formats of providers, and attribute conventions of instrumentation."""
