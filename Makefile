# The front door. CMake holds the truth; `make help` lists what there is.
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PRESET ?= demo
OUT ?= demo
BENCH ?= bench/speed.json
PREFIX ?= /usr/local
DESTDIR ?=
TESTS ?=
DEVICE_TESTS = -tc='problems*,device*,replay:*,transfer:*,accelerator*,jaccard device:*,played card:*' -tce='problems: work*,problems: the layers*'
comma := ,

.PHONY: build all help deps test demo bench bundle asan tsan cuda ptx dev check guard format fuzz install clean
build: deps ## build the program: build/reid
	@$(call compile,release)
all: build

help: ## this list
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

deps: ## install what is missing (apt; root and network only then)
	@tools/deps.sh

test: build ## build and run the whole test suite (TESTS='-tc=*jaccard*' to filter)
	@tools/run_tests.sh build/reid_tests $(TESTS)

demo: deps ## draw data sets, train, evaluate, show the table (PRESET=tiny or demo, OUT=folder)
	@$(call compile,release,--target reid)
	@build/reid demo --preset $(PRESET) --out $(OUT)

dev: deps ## debug build with inner-loop checks and warnings as errors: build-dev/reid
	@$(call compile,dev)

asan: deps ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call compile,asan,--target reid_tests)
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 tools/run_tests.sh build-asan/reid_tests $(TESTS)

tsan: deps ## loader, thread pool and other threaded tests under ThreadSanitizer
	@$(call compile,tsan)
	@TSAN_OPTIONS=halt_on_error=1 build-tsan/reid_tests $(if $(TESTS),$(TESTS),-tc='*loader:*,*parallel_for*,*thread*,*allocator*,*workspace*')

cuda: deps ## the kernels through nvcc, where there is one: registers are listed, spills fail (on a GPU: tools/gpu_check.sh)
	@$(call compile,release,--target reid_kernels_cuda)

ptx: deps ## the tests of a device, on a played card that runs what nvcc made of the kernels (REID_PLAYED_CARD=80: an A100's)
	@$(call compile,release,--target reid_ptx reid_ptx_tests,-DREID_PLAYED_CARD=ON)
	@[ ! -x build/reid_ptx_tests ] || REID_DEVICE=cuda REID_WITHOUT=cudnn$(comma)cublaslt tools/run_tests.sh build/reid_ptx_tests $(or $(TESTS),$(DEVICE_TESTS))

fuzz: build ## random input for every reader of files, ten minutes each (SECONDS_EACH=600); needs clang
	@$(call compile,fuzz)
	@tools/fuzz.sh

check: ## format and structure: wings, floors, sizes, self-contained headers; tables of the docs; clang as a second compiler
	@tools/deps.sh --check-tools
	@python3 tools/check_repo.py
	@python3 tools/readme_tables.py --check
	@tools/check_clang.sh

format: ## clang-format every source file in place
	@tools/deps.sh --check-tools
	@find include src tests kernels docs -name '*.h' -o -name '*.cpp' -o -name '*.c' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | xargs clang-format -i

bench: deps ## how fast it is here: network, layers, products, loading (BENCH=bench/speed.json; beside PyTorch: tools/compare_torch.py)
	@$(call compile,release,--target reid)
	@build/reid bench all --json $(BENCH)

guard: build ## machine code of the inner loops, instruction counts of the kernels
	@tools/deps.sh --check-tools
	@tools/check_loops.py
	@tools/check_instructions.py

bundle: ## dist/reid-VERSION.tar.gz: sources with the header-only libraries inside, builds offline
	@tools/deps.sh
	@tools/bundle.sh

install: build ## install the program and libreid.so (PREFIX=/usr/local DESTDIR=)
	@DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX)

clean: ## remove build folders and dist/
	rm -rf build build-dev build-asan build-tsan build-fuzz dist

define compile
cmake --preset $(1) $(CMAKE_ARGS) $(3) >build-configure.log 2>&1 || { cat build-configure.log; rm -f build-configure.log; exit 1; }; rm -f build-configure.log; \
cmake --build --preset $(1) -j $(JOBS) $(2)
endef
