"""The archives: what each holds, how it is asked, and what its answers mean."""
