"""What the command line is made of; `fastgmm.__main__` puts it together."""
