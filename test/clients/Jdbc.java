// Statements by pgJDBC as it is: a connection a name. Driven by ../drivers_test.go, which describes the lines.
// A thread a name waits for its server; the main thread waits for standard input, and the process ends with that.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.logging.Level;
import java.util.logging.Logger;

public class Jdbc {
    private static final Logger DRIVER = Logger.getLogger("org.postgresql");
    private final String name;
    private final ExecutorService thread = Executors.newSingleThreadExecutor();
    private Connection connection; // of the thread alone; null: there is none

    private Jdbc(String name) {
        this.name = name;
    }

    private void run(String url, String statement) {
        try {
            if (connection == null) {
                connection = DriverManager.getConnection(url);
            }
            try (Statement s = connection.createStatement(); ResultSet r = s.executeQuery(statement)) {
                r.next();
                tell("ok", r.getString(1));
            }
        } catch (SQLException e) {
            tell("error", e.getSQLState() + " " + e.getMessage());
            String state = String.valueOf(e.getSQLState());
            if (connection != null && (state.startsWith("08") || state.startsWith("57P"))) { // as pools judge it
                try {
                    connection.close();
                } catch (SQLException ignored) {
                    // it was broken already
                }
                connection = null;
            }
        }
    }

    private void tell(String kind, String text) {
        synchronized (System.out) {
            System.out.println(name + "\t" + kind + "\t" + text.replaceAll("\\s+", " "));
            System.out.flush();
        }
    }

    public static void main(String[] args) throws Exception {
        DRIVER.setLevel(Level.OFF); // what went wrong comes as an exception, too
        Map<String, Jdbc> all = new HashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] f = line.split("\t");
            Jdbc client = all.computeIfAbsent(f[0], Jdbc::new);
            client.thread.submit(() -> client.run(f[1], f[2]));
        }
        System.exit(0);
    }
}
