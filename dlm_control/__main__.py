"""`python -m dlm_control`, the same as `dlm`; `accelerate launch -m dlm_control train …` needs it."""

from dlm_control.cli import main

if __name__ == "__main__":
    main()
