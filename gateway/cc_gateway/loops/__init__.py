"""What runs by itself: `relay` (Redis → record → listeners) and `reconciler` (what is wanted → what is)."""
