"""A simulator of the providers' wire formats, apart from the gateway: nothing here imports pygate."""
