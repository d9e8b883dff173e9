"""The benchmark's report: one HTML file that works offline."""
