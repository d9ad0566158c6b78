"""The telephone and browser side of calls."""
