"""Folders of hls4ml projects, as synthesis leaves them, read as samples for the calibration of the estimates."""
