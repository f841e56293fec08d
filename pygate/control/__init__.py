"""The control process: owns listeners, configuration and workers, and never touches a request."""
