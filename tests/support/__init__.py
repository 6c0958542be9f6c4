"""What the tests share: real gateways, real servers, prompts that script the model."""
