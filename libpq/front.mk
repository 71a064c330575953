# The libpq front: build/connmgr/libpq.so.5, libpq.so, and build/libpq-cm.pc. Included by the top Makefile; `make -f libpq/front.mk` from
# the root builds it alone. Needs gcc, Go (for the generator) and libpq-dev.

PKG_CONFIG ?= pkg-config
PG_CONFIG ?= pg_config
GO ?= go
CC ?= gcc
prefix ?= /usr/local

# libpq's directories by pkg-config, else by pg_config: libpq.pc has no libdir before 15, and asking for more than a variable fails where
# what it requires (libcurl, since 19) is not installed.
libpq_dir = $(or $(shell $(PKG_CONFIG) --variable=$(1) libpq 2>/dev/null),$(shell $(PG_CONFIG) --$(1) 2>/dev/null))
LIBPQ_INCLUDE := $(call libpq_dir,includedir)
LIBPQ_VERSION = $(or $(shell $(PKG_CONFIG) --modversion libpq 2>/dev/null),$(word 2,$(shell $(PG_CONFIG) --version 2>/dev/null)))

# The installed libpq that the front stands before, as the loader will find it: by absolute path.
REAL_LIBPQ ?= $(call libpq_dir,libdir)/libpq.so.5

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

.PHONY: front front-check front-clean front-force
front: $(FRONT_OUT)/libpq.so.5 $(FRONT_OUT)/libpq.so build/libpq-cm.pc

$(REAL_LIBPQ):
	@echo "front.mk: there is no libpq at '$@': install libpq-dev, or give REAL_LIBPQ=/path/to/libpq.so.5" >&2
	@$(PKG_CONFIG) --print-errors --exists libpq >&2
	@exit 1

# Is every function of these libraries classed? make -f libpq/front.mk front-check LIBPQS='/path/to/libpq.so.5 ...'
LIBPQS ?= $(REAL_LIBPQ)
front-check:
	$(GO) run ./libpq/gen -check libpq/functions.list $(LIBPQS)

$(FRONT_GEN_SRC) $(FRONT_GEN_HDR) &: libpq/functions.list $(wildcard libpq/gen/*.go cm/*.go) $(REAL_LIBPQ)
	$(GO) run ./libpq/gen libpq/functions.list $(REAL_LIBPQ) $(FRONT_GEN)

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
		'Version: $(LIBPQ_VERSION)' 'Cflags: -I$${includedir} $(LIBPQ_INCLUDE:%=-I%)' \
		'Libs: -L$${libdir} -Wl,-rpath,$${libdir} -lpq' > $@

# Its tests need Debian's libecpg-dev, python3-psycopg2, python3-psycopg, php-cli, php-pgsql, ruby-pg, odbc-postgresql, unixodbc-dev and valgrind, too.
front-clean:
	rm -rf $(FRONT_GEN) $(FRONT_OUT) build/libpq-cm.pc
