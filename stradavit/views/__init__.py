"""Views: what the network sees, made anew in every epoch on the device that trains."""
