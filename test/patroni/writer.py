"""A writing application: inserts one row after the other, each in a transaction of its own.

usage: writer.py NAME CONNINFO

Prints a line before a row is sent, "send NUMBER MONOTONIC-SECONDS", one when the server has acknowledged
it, "ack NUMBER MONOTONIC-SECONDS SERVER", and one a failure, "error MONOTONIC-SECONDS TEXT". Connects anew
after each failure. Ends with its parent.
"""

import sys
import time

import psycopg2


def connect(conninfo):
    connection = psycopg2.connect(conninfo)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT host(inet_server_addr())")
    return connection, cursor, cursor.fetchone()[0]


def main():
    name, conninfo = sys.argv[1:]
    connection = None
    number = 0
    while True:
        try:
            if connection is None:
                connection, cursor, server = connect(conninfo)
            number += 1
            print("send", number, "%.6f" % time.monotonic(), flush=True)
            cursor.execute("INSERT INTO written VALUES (%s, %s)", (name, number))
            print("ack", number, "%.6f" % time.monotonic(), server, flush=True)
            time.sleep(0.005)
        except psycopg2.Error as e:
            print("error", "%.6f" % time.monotonic(), str(e).split("\n")[0], flush=True)
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.01)


main()
