"""gRPC through real gateways, with grpcio on both sides."""
