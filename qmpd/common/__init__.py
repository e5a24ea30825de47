"""What QEMU means by an identifier, an integer, a size, an order and a text."""
