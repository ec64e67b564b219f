import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs a job file of Tributary on real Flink, in this process, up to the ends that its topics have now.
 *
 * <p>The file goes in as it stands, but for three things that Flink's Java interface leaves to its caller: variables are filled
 * from the environment, SET statements become configuration, and Kafka scans are bounded. Behind the file may stand options as
 * key=value: those that begin with "scan." are each Kafka table's, the others configuration. One lane, if they say nothing else.
 */
public class Job {
  private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)(?::-([^}]*))?}");
  private static final Pattern SETTING = Pattern.compile("SET\\s+'([^']*)'\\s*=\\s*'([^']*)'");
  private static final Pattern KAFKA = Pattern.compile("'connector'\\s*=\\s*'kafka',");

  public static void main(String[] arguments) throws Exception {
    String text = Files.readString(Path.of(arguments[0]));
    text = VARIABLE.matcher(text).replaceAll(Job::valueOf);
    text = text.replaceAll("(?m)--.*$", "");

    Configuration configuration = new Configuration();
    configuration.setString("parallelism.default", "1");
    StringBuilder scans = new StringBuilder("$0 'scan.bounded.mode' = 'latest-offset',");
    for (String option : Arrays.asList(arguments).subList(1, arguments.length)) {
      String[] pair = option.split("=", 2);
      if (pair[0].startsWith("scan.")) {
        scans.append(" '" + pair[0] + "' = '" + pair[1] + "',");
      } else {
        configuration.setString(pair[0], pair[1]);
      }
    }
    text = KAFKA.matcher(text).replaceAll(scans.toString());
    TableEnvironment tables =
        TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());

    int set = text.indexOf("EXECUTE STATEMENT SET");
    for (String statement : text.substring(0, set).split(";\\s*\n")) {
      statement = statement.strip();
      Matcher setting = SETTING.matcher(statement);
      if (setting.matches()) {
        tables.getConfig().set(setting.group(1), setting.group(2));
      } else if (!statement.isEmpty()) {
        tables.executeSql(statement);
      }
    }
    tables.executeSql(text.substring(set).strip().replaceAll(";$", "")).await();
  }

  private static String valueOf(java.util.regex.MatchResult variable) {
    String value = System.getenv(variable.group(1));
    if (value == null) {
      value = variable.group(2);
    }
    if (value == null) {
      throw new IllegalArgumentException(variable.group(1) + " is not set and has no default");
    }
    return Matcher.quoteReplacement(value);
  }
}
