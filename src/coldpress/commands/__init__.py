"""What the command line's commands do; ``coldpress.cli`` holds their options."""
