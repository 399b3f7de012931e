"""The page of a mount, in headless Chromium."""
