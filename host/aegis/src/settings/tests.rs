//! Claims about the settings as operators meet them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args as _, Command, FromArgMatches as _};
use proptest::prelude::*;

use super::error::SettingsError;
use super::print::configuration_markdown;
use super::*;

fn args(flags: &[&str]) -> ServeArgs {
    let command = ServeArgs::augment_args(Command::new("serve")).no_binary_name(true);
    ServeArgs::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

fn variables(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

pub(super) fn resolve(
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Resolved, SettingsError> {
    args(flags).resolve(variables(environment))
}

/// Settings with this text as the file, which the closure gets the path of.
fn with_file<T>(text: &str, then: impl FnOnce(&str) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aegis.toml");
    fs::write(&path, text).unwrap();
    then(path.to_str().unwrap())
}

/// The error's text with the file's folder left out.
fn refused(flags: &[&str], environment: &[(&str, &str)], file: &str) -> String {
    with_file(file, |path| {
        let mut flags = flags.to_vec();
        flags.extend(["--config", path]);
        let message = resolve(&flags, environment).unwrap_err().to_string();
        let folder = Path::new(path)
            .parent()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
            + "/";
        message.replace(&folder, "")
    })
}

#[test]
fn nothing_said_gives_the_defaults() {
    let resolved = resolve(&[], &[]).unwrap();
    let settings = resolved.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(settings.data, PathBuf::from("data"));
    assert_eq!(settings.models, Vec::<PathBuf>::new());
    assert_eq!(settings.onnxruntime, None);
    assert_eq!(settings.management, Management::On);
    assert!(settings.prewarm_model && settings.readiness_check_model);
    assert_eq!(
        (settings.predict_max_concurrency, settings.predict_max_queue),
        (16, 64)
    );
    assert_eq!(settings.max_body.bytes(), 16 << 20);
    assert_eq!(settings.max_header.bytes(), 32 << 10);
    assert_eq!(settings.max_upload.bytes(), 1 << 30);
    assert_eq!(settings.max_memory.bytes(), 1 << 30);
    assert_eq!(settings.request_timeout, Duration::from_secs(30));
    assert_eq!(settings.grace_period, Duration::from_secs(25));
    assert_eq!((settings.max_instances, settings.warm_instances), (256, 8));
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(resolved.warnings.is_empty());
}

#[test]
fn a_flag_wins_over_the_environment_it_over_the_file_and_that_over_the_default() {
    with_file(
        "predict_max_queue = 1\nmax_body_mib = 1\nwarm_instances = 1\n",
        |path| {
            let resolved = resolve(
                &["--predict-max-queue", "3", "--config", path],
                &[
                    ("AEGIS_PREDICT_MAX_QUEUE", "2"),
                    ("AEGIS_MAX_BODY_MIB", "2"),
                ],
            )
            .unwrap();
            assert_eq!(resolved.settings.predict_max_queue, 3);
            assert_eq!(resolved.settings.max_body.bytes(), 2 << 20);
            assert_eq!(resolved.settings.warm_instances, 1);
            assert_eq!(resolved.settings.predict_max_concurrency, 16);
            let printed = resolved.to_toml();
            for line in [
            "# --predict-max-queue, AEGIS_PREDICT_MAX_QUEUE. Here from: flag --predict-max-queue.\npredict_max_queue = 3\n".to_owned(),
            "Here from: environment AEGIS_MAX_BODY_MIB.\nmax_body_mib = 2\n".to_owned(),
            format!("Here from: {path}, line 3: `warm_instances`.\nwarm_instances = 1\n"),
            "Here from: the default.\npredict_max_concurrency = 16\n".to_owned(),
        ] {
            assert!(printed.contains(&line), "{line} in {printed}");
        }
        },
    );
}

#[test]
fn the_file_is_named_by_flag_before_variable() {
    with_file("predict_max_queue = 1", |first| {
        with_file("predict_max_queue = 2", |second| {
            let both = resolve(&["--config", first], &[("AEGIS_CONFIG", second)]).unwrap();
            assert_eq!(both.settings.predict_max_queue, 1);
            let variable = resolve(&[], &[("AEGIS_CONFIG", second)]).unwrap();
            assert_eq!(variable.settings.predict_max_queue, 2);
        });
    });
}

#[test]
fn every_place_can_hold_a_list() {
    let flags = resolve(&["--models", "a", "--models", "b"], &[])
        .unwrap()
        .settings;
    assert_eq!(flags.models, [PathBuf::from("a"), PathBuf::from("b")]);
    let environment = resolve(&[], &[("AEGIS_MODELS", "c:d e")]).unwrap().settings;
    assert_eq!(
        environment.models,
        [PathBuf::from("c"), PathBuf::from("d e")]
    );
    let file = with_file("models = ['f', \"g\"]", |path| {
        resolve(&["--config", path], &[]).unwrap().settings
    });
    assert_eq!(file.models, [PathBuf::from("f"), PathBuf::from("g")]);
}

#[test]
fn header_names_are_a_list_by_commas_in_lower_case() {
    let names = |resolved: Resolved| resolved.settings.forward_headers;
    let flag = names(resolve(&["--forward-headers", "Accept,X-Tenant"], &[]).unwrap());
    assert_eq!(flag, ["accept", "x-tenant"]);
    let environment =
        names(resolve(&[], &[("AEGIS_FORWARD_HEADERS", "accept, X-Tenant")]).unwrap());
    assert_eq!(environment, flag);
    assert!(names(resolve(&[], &[]).unwrap()).contains(&"traceparent".to_owned()));
    let told = refused(&[], &[], "forward_headers = [\"x tenant\"]");
    assert!(
        told.contains("expected a list of names of HTTP headers"),
        "{told}"
    );
}

#[test]
fn booleans_are_written_as_people_write_them() {
    for (word, value) in [("1", true), ("true", true), ("0", false), ("false", false)] {
        let by_variable = resolve(&[], &[("AEGIS_PREWARM_MODEL", word)]).unwrap();
        assert_eq!(by_variable.settings.prewarm_model, value);
        let by_flag = resolve(&["--prewarm-model", word], &[]).unwrap();
        assert_eq!(by_flag.settings.prewarm_model, value);
    }
    let alone = resolve(&["--prewarm-model"], &[("AEGIS_PREWARM_MODEL", "0")]).unwrap();
    assert!(alone.settings.prewarm_model);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let resolved = resolve(&[], &[("AEGIS_LISTEN", ""), ("AEGIS_CONFIG", "")]).unwrap();
    assert_eq!(resolved.settings.listen.port(), 8000);
}

#[test]
fn a_wrong_value_is_told_with_its_place_and_what_would_be_right() {
    for (flags, environment, file, told) in [
        (
            &["--listen", "8000"][..],
            &[][..],
            "",
            "flag --listen: found \"8000\", expected an IP address and a port, as in \"127.0.0.1:8000\" or \"[::1]:8000\"",
        ),
        (
            &[],
            &[("AEGIS_LISTEN", "example.com:80")],
            "",
            "environment AEGIS_LISTEN: found \"example.com:80\", expected an IP address and a port, as in \"127.0.0.1:8000\" or \"[::1]:8000\"",
        ),
        (
            &[],
            &[],
            "\nlisten = \"nowhere\"",
            "aegis.toml, line 2: `listen`: found \"nowhere\", expected an IP address and a port, as in \"127.0.0.1:8000\" or \"[::1]:8000\"",
        ),
        (
            &[],
            &[],
            "listen = 8000",
            "aegis.toml, line 1: `listen`: found 8000, expected an IP address and a port, as in \"127.0.0.1:8000\" or \"[::1]:8000\", as in listen = \"127.0.0.1:8000\"",
        ),
        (
            &[],
            &[],
            "max_body_mib = \"16\"",
            "aegis.toml, line 1: `max_body_mib`: found \"16\", expected a whole number of MiB from 1 to 4096, as in max_body_mib = 16",
        ),
        (
            &[],
            &[],
            "max_body_mib = 0",
            "aegis.toml, line 1: `max_body_mib`: found \"0\", expected a whole number of MiB from 1 to 4096",
        ),
        (
            &[],
            &[],
            "prewarm_model = 1",
            "aegis.toml, line 1: `prewarm_model`: found 1, expected true or false (1 and 0 do too, outside the file), as in prewarm_model = true",
        ),
        (
            &[],
            &[],
            "models = \"here\"",
            "aegis.toml, line 1: `models`: found \"here\", expected a list of paths of folders, as in models = [\"/some/path\"]",
        ),
        (
            &["--request-timeout-ms", "1.5"],
            &[],
            "",
            "flag --request-timeout-ms: found \"1.5\", expected a whole number of milliseconds from 1 to 3600000",
        ),
        (
            &[],
            &[("AEGIS_PREWARM_MODEL", "yes")],
            "",
            "environment AEGIS_PREWARM_MODEL: found \"yes\", expected true or false (1 and 0 do too, outside the file)",
        ),
        (
            &[],
            &[("AEGIS_LOG_FORMAT", "xml")],
            "",
            "environment AEGIS_LOG_FORMAT: found \"xml\", expected \"text\" or \"json\"",
        ),
        (
            &["--log-filter", "inof"],
            &[],
            "",
            "flag --log-filter: found \"inof\", expected a level (error, warn, info, debug, trace, off) or a list like \"info,aegis_server=debug\"",
        ),
        (
            &["--data", ""],
            &[],
            "",
            "flag --data: found \"\", expected the path of a folder",
        ),
        (
            &[],
            &[],
            "prewarm_modle = true",
            "aegis.toml, line 1: `prewarm_modle`: there is no such setting; did you mean prewarm_model?",
        ),
        (
            &[],
            &[],
            "[server]\nlisten = \"127.0.0.1:1\"",
            "aegis.toml, line 1: `server`: there is no such setting; `aegis serve --help` lists them all",
        ),
    ] {
        assert_eq!(refused(flags, environment, file), told);
    }
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_line() {
    let told = refused(&[], &[], "data = \"a\"\nlisten = 127.0.0.1\n");
    assert!(
        told.starts_with("aegis.toml: ") && told.contains("line 2"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_not_there_is_told_with_who_named_it() {
    let told = resolve(&[], &[("AEGIS_CONFIG", "no/such.toml")])
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("environment AEGIS_CONFIG: no/such.toml: "),
        "{told}"
    );
    let told = resolve(&["--config", "no/such.toml"], &[])
        .unwrap_err()
        .to_string();
    assert!(told.starts_with("flag --config: no/such.toml: "), "{told}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let told = refused(
        &["--listen", "x"],
        &[("AEGIS_DATA", "d"), ("AEGIS_MAX_BODY_MIB", "x")],
        "warm_instances = -1\ncolour = 1",
    );
    assert_eq!(told.lines().count(), 4, "{told}");
}

#[test]
fn an_open_address_is_refused_while_models_can_be_managed() {
    let told = resolve(&[], &[("AEGIS_LISTEN", "0.0.0.0:8000")])
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("environment AEGIS_LISTEN: 0.0.0.0:8000 can be reached from outside"),
        "{told}"
    );
    for fix in [
        "--management off",
        "AEGIS_MANAGEMENT=off",
        "management = \"off\"",
        "127.0.0.1:8000",
    ] {
        assert!(told.contains(fix), "{told}");
    }
    for open in ["[::]:80", "192.168.0.1:80"] {
        assert!(resolve(&["--listen", open], &[]).is_err());
        assert!(resolve(&["--listen", open, "--management", "off"], &[]).is_ok());
    }
    for closed in ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "localhost:80"] {
        assert!(resolve(&["--listen", closed], &[]).is_ok());
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let told = resolve(&["--max-instances", "4"], &[])
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("8 instances") && told.contains("flag --max-instances"),
        "{told}"
    );
    let told = resolve(&["--drain-delay-ms", "26000"], &[])
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("flag --drain-delay-ms: a drain delay of 26000 ms"),
        "{told}"
    );
}

#[test]
fn a_variable_nobody_reads_is_warned_about_with_what_is_near() {
    let resolved = resolve(
        &[],
        &[
            ("AEGIS_PREDICT_MAX_CONCURENCY", "4"),
            ("AEGIS_COLOUR", "blue"),
            ("AEGIS_SERVICE_HOST", "10.0.0.1"),
            ("AEGIS_PORT", "tcp://10.0.0.1:8000"),
            ("AEGIS_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("AEGIS_SERVER", "http://127.0.0.1:8000"),
            ("PREDICT_MAX_CONCURRENCY", "4"),
        ],
    )
    .unwrap();
    assert_eq!(
        resolved.warnings,
        [
            "environment AEGIS_PREDICT_MAX_CONCURENCY: there is no such setting, it is ignored; did you mean AEGIS_PREDICT_MAX_CONCURRENCY?",
            "environment AEGIS_COLOUR: there is no such setting, it is ignored; `aegis serve --help` lists them all",
        ]
    );
    assert_eq!(resolved.settings.predict_max_concurrency, 16);
}

#[test]
fn what_opentelemetry_calls_it_holds_where_nothing_of_ours_does() {
    let standard = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_SERVICE_NAME", "digits service"),
    ];
    let settings = resolve(&[], &standard).unwrap().settings;
    let endpoint = |settings: &ServeSettings| settings.otlp_endpoint.as_ref().unwrap().to_string();
    assert_eq!(endpoint(&settings), "http://collector:4317");
    assert_eq!(settings.otlp_protocol, OtlpProtocol::Grpc);
    assert_eq!(settings.otlp_timeout, Duration::from_secs(2));
    assert_eq!(settings.otlp_interval, Duration::from_secs(15));
    assert_eq!(settings.trace_sampler, SamplerKind::ParentBasedAlwaysOff);
    assert_eq!(settings.trace_ratio, 0.25);
    assert_eq!(
        settings.otlp_service_name.as_deref(),
        Some("digits service")
    );
    with_file(
        "otlp_endpoint = \"http://by-file\"\ntrace_ratio = 1",
        |path| {
            let by_file = resolve(&["--config", path], &standard).unwrap().settings;
            assert_eq!(endpoint(&by_file), "http://by-file");
            assert_eq!(by_file.trace_ratio, 1.0);
        },
    );
    let by_flag = resolve(&["--otlp-protocol", "http"], &standard).unwrap();
    assert_eq!(by_flag.settings.otlp_protocol, OtlpProtocol::Http);
    let printed = resolve(&[], &standard).unwrap().to_toml();
    assert!(
        printed.contains("Else OTEL_TRACES_SAMPLER_ARG. Here from: environment OTEL_TRACES_SAMPLER_ARG.\ntrace_ratio = 0.25\n"),
        "{printed}"
    );
}

#[test]
fn a_standard_variable_that_is_not_understood_is_warned_about() {
    let resolved = resolve(
        &[],
        &[
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ],
    )
    .unwrap();
    assert_eq!(resolved.settings.otlp_endpoint, None);
    assert_eq!(resolved.settings.otlp_protocol, OtlpProtocol::Http);
    let [endpoint, sampler] = resolved.warnings.as_slice() else {
        panic!("{:?}", resolved.warnings);
    };
    assert!(
        endpoint.starts_with(
            "environment OTEL_EXPORTER_OTLP_ENDPOINT: found \"https://collector:4318\""
        ) && endpoint.contains("TLS is not built in"),
        "{endpoint}"
    );
    assert!(
        sampler.contains("found \"jaeger_remote\"") && sampler.ends_with("it is ignored"),
        "{sampler}"
    );
}

#[test]
fn where_telemetry_goes_is_checked() {
    for (flag, value, told) in [
        (
            "--otlp-endpoint",
            "collector:4317",
            "the URL of a collector",
        ),
        (
            "--otlp-endpoint",
            "https://collector",
            "TLS is not built in",
        ),
        ("--otlp-protocol", "http/json", "\"http\" or \"grpc\""),
        ("--trace-ratio", "1.5", "a number from 0 to 1"),
        ("--trace-ratio", "NaN", "a number from 0 to 1"),
        (
            "--trace-sampler",
            "sometimes",
            "\"parentbased_traceidratio\"",
        ),
        ("--otlp-headers", "no value", "HTTP headers as NAME=VALUE"),
        ("--otlp-service-name", " ", "a name of one line"),
    ] {
        let complaint = resolve(&[flag, value], &[]).unwrap_err().to_string();
        assert!(complaint.contains(told), "{value}: {complaint}");
    }
    let headers = ["--otlp-headers", "X-Tenant=blue,authorization=Basic a=="];
    let settings = resolve(&headers, &[]).unwrap().settings;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        settings.otlp_headers,
        [pair("x-tenant", "blue"), pair("authorization", "Basic a==")]
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_told() {
    use std::os::unix::ffi::OsStringExt as _;
    let environment = vec![("AEGIS_DATA".into(), OsString::from_vec(vec![0xff]))];
    let told = args(&[]).resolve(environment).unwrap_err().to_string();
    assert_eq!(told, "environment AEGIS_DATA: its value is not UTF-8");
}

/// The settings of a printed file, loaded.
fn loaded(printed: &str) -> ServeSettings {
    with_file(printed, |path| match resolve(&["--config", path], &[]) {
        Ok(resolved) => resolved.settings,
        Err(error) => panic!("{error}\n{printed}"),
    })
}

#[test]
fn what_is_printed_loads_back_and_says_every_setting() {
    let resolved = resolve(&[], &[]).unwrap();
    let printed = resolved.to_toml();
    assert_eq!(loaded(&printed), resolved.settings);
    for row in TABLE {
        assert!(printed.contains(&format!("{} = ", row.key)), "{}", row.key);
        assert!(
            printed.contains(&format!("# --{}, {}.", row.flag(), row.variable())),
            "{}",
            row.key
        );
        assert!(printed.contains(row.help()), "{}", row.key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_set_is_printed_so_that_it_loads_back(
        data in "[^\\x00]{1,20}",
        models in proptest::collection::vec("[^\\x00-]{1,12}", 0..4),
        runtime in proptest::option::of("[^\\x00-]{1,12}"),
        queue in 0_u32..=100_000,
        timeout in 1_u32..=3_600_000,
        prewarm in any::<bool>(),
        json in any::<bool>(),
    ) {
        let mut flags = vec![format!("--data={data}"), format!("--predict-max-queue={queue}")];
        flags.push(format!("--request-timeout-ms={timeout}"));
        flags.push(format!("--prewarm-model={}", u8::from(prewarm)));
        flags.push(format!("--log-format={}", if json { "json" } else { "text" }));
        flags.extend(models.iter().map(|model| format!("--models={model}")));
        flags.extend(runtime.iter().map(|path| format!("--onnxruntime={path}")));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let resolved = resolve(&flags, &[]).unwrap();
        prop_assert_eq!(&resolved.settings.data, &PathBuf::from(data));
        prop_assert_eq!(resolved.settings.models.len(), models.len());
        prop_assert_eq!(loaded(&resolved.to_toml()), resolved.settings);
    }
}

#[test]
fn help_shows_every_flag_with_its_variable_and_default() {
    let help = ServeArgs::augment_args(Command::new("serve").term_width(10_000))
        .render_long_help()
        .to_string();
    for row in TABLE {
        assert!(help.contains(&format!("--{}", row.flag())), "{help}");
        assert!(
            help.contains(&format!("[env: {}]", row.variable())),
            "{help}"
        );
    }
    assert!(
        help.contains(
            "Address and port to listen on. [env: AEGIS_LISTEN] [default: 127.0.0.1:8000]"
        ),
        "{help}"
    );
}

#[test]
fn keys_are_unique_and_every_default_is_right() {
    for (index, row) in TABLE.iter().enumerate() {
        assert!(
            TABLE[index + 1..].iter().all(|other| other.key != row.key),
            "{}",
            row.key
        );
        assert!(
            !row.help().contains("  ") && row.help().ends_with('.'),
            "{}",
            row.key
        );
        // Kubernetes makes such variables of a service's name.
        assert!(
            !row.variable().starts_with("AEGIS_PORT")
                && !row.variable().starts_with("AEGIS_SERVICE")
        );
    }
    assert!(resolve(&[], &[]).is_ok());
}

#[test]
fn the_page_of_settings_is_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = configuration_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &expected).unwrap();
    }
    let committed = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == expected,
        "docs/configuration.md is not what the table says; run: UPDATE_DOCS=1 cargo test -p aegis settings"
    );
}
