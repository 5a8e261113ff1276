"""The engines' own planners beside ours: vLLM's cache planner, llama-fit-params and llama-quantize."""
