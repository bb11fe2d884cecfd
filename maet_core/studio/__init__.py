"""What the pages share: the shell around them, their state, cached resources, the heatmap and charts."""
