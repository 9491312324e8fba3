"""What every room uses: configuration, errors, files, random generators, command line, processes."""
