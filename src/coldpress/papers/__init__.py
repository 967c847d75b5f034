"""Published systems, as they were published and corrected, side by side."""
