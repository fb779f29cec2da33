# The commands of the book. `make help` lists them, CONTRIBUTING.md explains
# them. Set PYTHON to choose the interpreter that .venv is made with.

.DEFAULT_GOAL := help
# The targets share .venv, _build and the processor's cores.
.NOTPARALLEL:

py := .venv/bin/python
port ?= 8000
pages := @test -f _build/html/index.html \
	|| { echo "There are no pages yet: run make book first." >&2; exit 1; };

.PHONY: help install data book pdf colab-check publish test lint format unit \
	slow notebooks serve experiments bench gpu newest clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

book: install data ## build the pages into _build/html (SOLUTIONS=0: no answers)
	@$(py) -m book.build

pdf: book ## print the pages as one PDF, _build/pdf/book.pdf
	@$(py) -m book.browser
	@$(py) -m book.pdf

colab-check: book ## run every exported notebook in a new environment like Colab's
	@$(py) -m book.colab_check

publish: ## push the built pages to the branch gh-pages of origin
	$(pages) $(py) -m ghp_import --no-jekyll --no-history --push \
		--message "Pages of $$(git rev-parse --short HEAD)" _build/html

# On a busy or small machine, threads wait for one another: one each is faster there.
test unit book notebooks: export OMP_NUM_THREADS = 1

test: install data lint unit book ## run lint, unit tests, notebooks, pages
	@$(py) -m book.browser
	$(py) -m pytest -n 2 --dist loadfile --nbval --nbval-current-env \
		--nbval-cell-timeout 600 chapters
	$(py) -m pytest -n 2 --dist loadfile -m "pages and not slow"

notebooks: install data ## execute every chapter in place
	@$(py) -m book.notebooks

# On a CPU, glibc's malloc would give every large tensor back to the system, which
# clears its pages again for the next step.
experiments bench gpu: export MALLOC_MMAP_MAX_ = 0
experiments bench gpu: export MALLOC_TRIM_THRESHOLD_ = 17179869184

# Runs are compared in one precision only: that of the records.
experiments: install data ## train what the chapter reports (hours on a CPU)
	$(py) -m experiments densenet --arms ours --precision bf16-mixed --seeds 3
	$(py) -m experiments densenet --arms d2l --precision 32-true
	$(py) -m experiments parameters --precision 32-true --seeds 3
	$(py) -m experiments parameters --arms narrow_resnet --precision 32-true --seeds 6
	$(py) -m experiments parameters --arms densenet --precision 32-true --seeds 10
	$(py) -m experiments pooling --precision 32-true --seeds 10
	$(py) -m experiments details --precision 32-true --seeds 6
	$(py) -m experiments sparse --precision 32-true --seeds 6
	$(py) -m experiments reuse --arms ablation --seeds 10
	$(py) -m experiments memory
	$(py) -m experiments reuse
	$(py) -m experiments housing --seeds 3
	$(py) -m experiments housing --source kaggle --seeds 3
	$(py) -m experiments housing_depth
	$(py) -m experiments housing_repeated --seeds 5

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
	$(pages) $(py) -m http.server --bind 127.0.0.1 --directory _build/html $(port)

lint: install ## check the style of code, notebooks and workflows
	$(py) -m ruff check
	$(py) -m ruff format --check
	.venv/bin/zizmor --offline --quiet .github/workflows

format: install ## bring code and notebooks into that style
	$(py) -m ruff check --fix
	$(py) -m ruff format

unit: install data ## run the tests that need no built pages
	$(py) -m pytest -n 2 -m "not slow and not pages"

slow: install data ## run the tests that take longer
	$(py) -m pytest -m slow

install: .venv/.installed ## make .venv and install into it

# Written last: an interrupted installation is taken up again.
.venv/.installed: requirements.txt requirements-d2l.txt pyproject.toml \
		book/install.sh
	@PYTHON='$(PYTHON)' sh book/install.sh
	@echo '$(CURDIR)' > $@

# The .venv of a folder that was copied or moved imports from where it was.
ifneq ($(shell cat .venv/.installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/.installed
endif

data: install ## find or fetch Fashion-MNIST, and verify it
	@sh book/data.sh $(py)

clean: ## remove what was built, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv
