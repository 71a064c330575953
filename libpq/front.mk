# The libpq front: build/connmgr/libpq.so.5, libpq.so, and build/libpq-cm.pc. Included by the top Makefile; `make -f libpq/front.mk` from
# the root builds it alone. Needs gcc, Go (for the generator) and libpq-dev.

PKG_CONFIG ?= pkg-config
PG_CONFIG ?= pg_config
GO ?= go
CC ?= gcc
prefix ?= /usr/local
VERSION ?= $(shell scripts/version)

# Where libpq is, by pkg-config, else by pg_config. Before 15 libpq.pc has no variables includedir and libdir, but -I and -L; and where what it
# requires (libcurl, since 19) is not installed, asking for more than a variable fails.
ask_pc = $(shell PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 $(PKG_CONFIG) $(1) libpq 2>/dev/null)
ask_pg = $(shell $(PG_CONFIG) $(1) 2>/dev/null)
LIBPQ_INCLUDE := $(or $(call ask_pc,--variable=includedir),$(patsubst -I%,%,$(filter -I%,$(call ask_pc,--cflags-only-I))),$(call ask_pg,--includedir))
LIBPQ_LIBDIR  := $(or $(call ask_pc,--variable=libdir),$(patsubst -L%,%,$(filter -L%,$(call ask_pc,--libs-only-L))),$(call ask_pg,--libdir))
LIBPQ_VERSION = $(or $(call ask_pc,--modversion),$(word 2,$(call ask_pg,--version)))

# The installed libpq that the front stands before, as the loader will find it: by absolute path. LIBPQ_SO is what the list of functions is
# compared with, another file only where that one is not on this machine (yet).
REAL_LIBPQ ?= $(firstword $(LIBPQ_LIBDIR))/libpq.so.5
LIBPQ_SO ?= $(REAL_LIBPQ)

CFLAGS ?= -O2 -g
include hardening.mk

FRONT_OUT := build/connmgr
FRONT_GEN := build/libpq
# A folder each, from the ground up; each knows those before it, and no other (libpq/README.md).
FRONT_LAYERS := base wire connect handle
FRONT_SRC := $(foreach l,$(FRONT_LAYERS),$(sort $(wildcard libpq/$l/*.c)))
FRONT_HDR := $(sort $(wildcard libpq/*.h libpq/*/*.h))
FRONT_GEN_SRC := $(FRONT_GEN)/base/table.c $(FRONT_GEN)/handle/forward.c
FRONT_GEN_HDR := $(FRONT_GEN)/functions.h $(FRONT_GEN)/cm.h
FRONT_OBJ := $(FRONT_SRC:libpq/%.c=$(FRONT_GEN)/%.o) $(FRONT_GEN_SRC:.c=.o)
FRONT_SAN ?=
FRONT_DEFS ?= -Wl,-z,defs
FRONT_CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -fPIC -fvisibility=hidden -pthread $(HARDEN_C) $(PREFIX_MAP) \
	-Wno-deprecated-declarations -DREAL_LIBPQ='"$(REAL_LIBPQ)"' -Ilibpq -I$(FRONT_GEN) $(LIBPQ_INCLUDE:%=-I%) $(FRONT_SAN)
# nodelete: the watcher thread runs our code, also when the module that has loaded us is unloaded
FRONT_LDFLAGS := -shared -pthread -Wl,-soname,libpq.so.5 -Wl,-z,nodelete $(HARDEN_LD) $(FRONT_DEFS) $(FRONT_SAN)

.PHONY: front front-check front-check-suites front-exports front-libpq test-front-versions front-clean front-force
front: $(FRONT_OUT)/libpq.so.5 $(FRONT_OUT)/libpq.so build/libpq-cm.pc

# What is missing, where it was looked for, and what pkg-config says of it.
define without
{ echo "front.mk: there is no $(1): install libpq-dev, or give $(2)"; \
  echo "front.mk: LIBPQ_INCLUDE is '$(LIBPQ_INCLUDE)', REAL_LIBPQ is '$(REAL_LIBPQ)', by $(PKG_CONFIG) and $(PG_CONFIG)"; \
  if command -v $(firstword $(PKG_CONFIG)) >/dev/null; then $(PKG_CONFIG) --print-errors --exists libpq; \
  else echo "front.mk: there is no $(firstword $(PKG_CONFIG))"; fi; exit 1; } >&2
endef

$(LIBPQ_SO):
	@$(call without,libpq at '$@',REAL_LIBPQ=/path/to/libpq.so.5)

.PHONY: front-headers
front-headers:
	@printf '#include <libpq-fe.h>\n#include <libpq-events.h>\n' | $(CC) $(LIBPQ_INCLUDE:%=-I%) -E -x c -o /dev/null - 2>/dev/null || \
		$(call without,libpq-fe.h,LIBPQ_INCLUDE=/path)

# Is every function of these libraries classed? make -f libpq/front.mk front-check LIBPQS='/path/to/libpq.so.5 ...'
# Without LIBPQS: of the one that is installed, and of all releases whose lists are kept.
LIBPQS ?= $(REAL_LIBPQ) $(sort $(wildcard libpq/gen/testdata/libpq5_*.txt))
front-check:  ## is every function of libpq classed: of the installed one, and of all releases whose lists are kept
	$(GO) run ./libpq/gen -check libpq/functions.list $(LIBPQS)

# The same for what Debian's suites have today, from the network; front-exports keeps that as well.
front-check-suites:  ## the same for the libpq of every Debian suite, from the network: ten seconds
	scripts/libpqs
front-libpq:
	@echo '$(REAL_LIBPQ)'

# A front for each of these libpqs, tried with the one that is installed.
test-front-versions:  ## fronts built with the libpq of every Debian suite, run with the installed one: 2 minutes, from the network
	scripts/front-versions
front-exports:  ## the same, and keep what they export in libpq/gen/testdata
	scripts/libpqs -w

$(FRONT_GEN_SRC) $(FRONT_GEN_HDR) &: libpq/functions.list $(wildcard libpq/gen/*.go cm/*.go) $(LIBPQ_SO) | front-headers
	$(GO) run ./libpq/gen libpq/functions.list $(LIBPQ_SO) $(FRONT_GEN)

$(FRONT_GEN_SRC:.c=.o): %.o: %.c $(FRONT_HDR) $(FRONT_GEN_HDR)
	$(CC) $(CFLAGS) $(FRONT_CFLAGS) -c -o $@ $<

$(FRONT_GEN)/%.o: libpq/%.c $(FRONT_HDR) $(FRONT_GEN_HDR)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(FRONT_CFLAGS) -c -o $@ $<

$(FRONT_OUT)/libpq.so.5: $(FRONT_OBJ)
	@mkdir -p $(FRONT_OUT)
	$(CC) $(FRONT_LDFLAGS) $(LDFLAGS) -o $@ $(FRONT_OBJ) -ldl

$(FRONT_OUT)/libpq.so: $(FRONT_OUT)/libpq.so.5
	ln -sf libpq.so.5 $@

front-force:

# Made each time, as prefix may be another one. The rpath makes a program linked with it find the front without any environment.
build/libpq-cm.pc: front-force
	@mkdir -p build
	@printf '%s\n' 'prefix=$(prefix)' 'libdir=$${prefix}/lib/connmgr' 'includedir=$${prefix}/include' '' \
		'Name: libpq-cm' 'Description: libpq with transparent connections by way of the Connection Manager' \
		'Version: $(shell scripts/version --package $(VERSION))' 'Cflags: -I$${includedir} $(LIBPQ_INCLUDE:%=-I%)' \
		'Libs: -L$${libdir} -Wl,-rpath,$${libdir} -lpq' > $@

# Its tests need Debian's libecpg-dev, python3-psycopg2, python3-psycopg, php-cli, php-pgsql, ruby-pg, odbc-postgresql, unixodbc-dev and valgrind, too.
front-clean:
	rm -rf $(FRONT_GEN) $(FRONT_OUT) build/libpq-cm.pc
