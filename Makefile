# The everyday commands. `make` alone lists them.

.PHONY: help run test soak chaos conformance fuzz lint fmt handlers runtimes telemetry-tools embeddings efficientnet guard vad bench dashboard-picture docs registry-tools

help: ## Lists the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

run: ## Builds everything and serves the example models (ARGS="--listen …")
	scripts/run.sh $(ARGS)

test: ## Installs what the tests need and runs them all
	scripts/test.sh $(ARGS)

soak: ## A server under everything at once for ten minutes (ARGS="--minutes 3")
	scripts/soak.sh $(ARGS)

chaos: ## A fleet and its callers under everything that is done to it, for ten minutes (ARGS="--minutes 3 --seed 6")
	scripts/chaos.sh $(ARGS)

conformance: ## Rewrites the lists of ONNX's node cases that fail, and the page made of them
	UPDATE_CONFORMANCE=1 cargo test --workspace --test conformance fails_the_cases
	UPDATE_DOCS=1 cargo test --workspace --test conformance page

fuzz: ## Fuzzes every target for 20 seconds (ARGS="--seconds 600 nn")
	scripts/fuzz.sh $(ARGS)

lint: ## Format and lints, as CI has them
	cargo fmt --all --check
	cargo fmt --manifest-path examples/embeddings/Cargo.toml --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Formats the code
	cargo fmt --all
	cargo fmt --manifest-path examples/embeddings/Cargo.toml --all

handlers: ## Builds the example handlers and the tests' guests for wasm32-wasip2
	scripts/handlers.sh

runtimes: ## Brings ONNX Runtime and OpenVINO into .runtimes/ (through pip)
	scripts/runtimes.sh

telemetry-tools: ## Brings the collector rotel into .tools/
	scripts/telemetry-tools.sh

registry-tools: ## Brings an S3 and the tool that signs models into .tools/
	scripts/registry-tools.sh

embeddings: ## Fetches all-MiniLM-L6-v2 and builds its handler into .models/embeddings
	scripts/embeddings.sh

efficientnet: ## Fetches EfficientNet-Lite0 and builds its handler into .models/efficientnet
	scripts/efficientnet.sh

guard: ## Fetches the networks of the guard against prompt injection and builds its handler into .models/guard
	scripts/guard.sh

vad: ## Fetches Silero VAD and builds its handler into .models/vad
	scripts/vad.sh

bench: ## Measures the sandbox and the server against ONNX Runtime alone (bench/README.md)
	scripts/bench.sh $(ARGS)

dashboard-picture: ## Draws the README's picture of the dashboard from servers under load (ten minutes)
	scripts/dashboard-picture.sh

docs: ## Writes what is made from code: pages in docs/, manifests in k8s/
	UPDATE_DOCS=1 cargo test -p aegis settings
	UPDATE_DOCS=1 cargo test -p aegis-telemetry --test docs
	UPDATE_DOCS=1 cargo test -p aegis-registry --test docs
	UPDATE_DOCS=1 cargo test --workspace --test conformance page
	UPDATE_K8S=1 cargo test -p aegis-autoscale --test k8s
