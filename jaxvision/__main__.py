"""Run the command line: `python -m jaxvision VERB --flags` is the same as `jaxvision VERB --flags`."""

from jaxvision.cli import main

if __name__ == "__main__":
    main()
