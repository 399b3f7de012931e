"""What is handed out beside the code: units, container files, manual pages, the wheel itself."""
