"""What packages that add to edgekd can hold their own parts against, in their own tests."""
