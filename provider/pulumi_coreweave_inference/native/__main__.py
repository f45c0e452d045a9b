"""`python -m pulumi_coreweave_inference.native`: what the engine starts."""

from .main import main

if __name__ == "__main__":
    main()
