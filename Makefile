# The commands of the book. `make help` lists them, CONTRIBUTING.md explains
# them. Set PYTHON to choose the interpreter that .venv is made with.

.DEFAULT_GOAL := help
# The targets share .venv, _build and the processor's cores.
.NOTPARALLEL:

py := .venv/bin/python
port ?= 8000

.PHONY: help install data book pdf colab-check publish test lint format unit lighthouse \
	slow notebooks serve experiments bench gpu newest clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

book: install data ## build the pages into _build/html (SOLUTIONS=0: no answers)
	@$(py) tools/book.py

pdf: book ## print the pages as one PDF, _build/pdf/book.pdf
	@$(py) tools/browser.py
	@$(py) tools/pdf.py

colab-check: book ## run every exported notebook in a new environment like Colab's
	@$(py) tools/colab_check.py

publish: ## push the built pages to the branch gh-pages of origin
	@sh tools/publish.sh

test: install data lint unit book ## run lint, unit tests, notebooks, pages
	@$(py) tools/browser.py
	$(py) -m pytest -n 2 --dist loadfile --nbval --nbval-current-env \
		--nbval-cell-timeout 600 chapters
	$(py) -m pytest -n 2 -m "pages and not slow"

notebooks: install data ## execute every chapter in place
	@$(py) -m tools.notebooks

experiments: install data ## train what the chapter reports (hours on a CPU)
	$(py) -m experiments densenet --seeds 3
	$(py) -m experiments parameters --seeds 3
	$(py) -m experiments pooling --seeds 3
	$(py) -m experiments details --seeds 3
	$(py) -m experiments sparse --seeds 3
	$(py) -m experiments memory
	$(py) -m experiments reuse
	$(py) -m experiments housing --seeds 3
	$(py) -m experiments housing --source kaggle --seeds 3

bench: install data ## measure training, D2L's way against ours
	$(py) -m experiments.bench

gpu: install data ## all that a GPU owner can add: tests, records, bench, pages
	$(py) -c "import torch; torch.cuda.is_available() or exit('There is no CUDA here.')"
	$(py) -m pytest -m cuda
	$(MAKE) experiments
	$(py) -m experiments.bench
	$(MAKE) book

newest: install ## replace the pins in .venv by the newest releases
	$(py) -m pip install --upgrade --upgrade-strategy eager ".[book,test]"
	$(py) -m pip install --no-deps --no-build-isolation -e .

serve: ## show the built pages on http://127.0.0.1:8000 (port=8000)
	@test -f _build/html/index.html \
		|| { echo "There are no pages yet: run make book first." >&2; exit 1; }
	@$(py) -m http.server --bind 127.0.0.1 --directory _build/html $(port)

lighthouse: ## ask Lighthouse (from npm) how fast and accessible each page is
	@$(py) tools/browser.py
	@$(py) -m tools.lighthouse

lint: install ## check the style of code, notebooks and workflows
	$(py) -m ruff check
	$(py) -m ruff format --check
	.venv/bin/zizmor --offline --quiet .github/workflows

format: install ## bring code and notebooks into that style
	$(py) -m ruff check --fix
	$(py) -m ruff format

unit: install data ## run the tests that need no built pages
	$(py) -m pytest -m "not slow and not pages"

slow: install data ## run the tests that take longer
	$(py) -m pytest -m slow

install: .venv/.installed ## make .venv and install into it

# Written last: an interrupted installation is taken up again.
.venv/.installed: requirements.txt requirements-d2l.txt pyproject.toml \
		tools/install.sh
	@PYTHON='$(PYTHON)' sh tools/install.sh
	@echo '$(CURDIR)' > $@

# The .venv of a folder that was copied or moved imports from where it was.
ifneq ($(shell cat .venv/.installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/.installed
endif

data: install ## find or fetch Fashion-MNIST, and verify it
	@sh tools/data.sh $(py)

clean: ## remove what was built, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv
