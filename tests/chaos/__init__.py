"""Random faults over the small workflow: whatever happens, the same tables come out in the end."""
