//! Series that come and go together. What OpenTelemetry counts it exports for ever, as it cannot forget one series of a
//! cumulative stream. So what must go with a model or a version has a meter provider of its own, which goes as a whole;
//! whoever reads the metrics reads all providers there are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;

use crate::otlp::SharedReader;
use crate::telemetry::TelemetryError;

/// A meter provider, read by one reader. Its series are gone when it is dropped.
pub(crate) struct Group {
    meter: Meter,
    reader: SharedReader,
    registry: prometheus::Registry,
    /// Last, so that it is shut down after everything that records into it.
    provider: SdkMeterProvider,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

impl Group {
    /// `room` is how many series an instrument of this name may have; the memory for them is taken at once.
    fn new(
        resource: Resource,
        room: impl Fn(&str) -> usize + Send + Sync + 'static,
    ) -> Result<Self, TelemetryError> {
        let registry = prometheus::Registry::new();
        // The names of the table stand for themselves: nothing is added to them.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError::Setup(error.to_string()))?;
        let reader = SharedReader::new(exporter);
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.clone())
            .with_resource(resource)
            .with_view(move |instrument: &Instrument| {
                Stream::builder()
                    .with_cardinality_limit(room(instrument.name()))
                    .build()
                    .ok()
            })
            .build();
        Ok(Self {
            meter: provider.meter("aegis"),
            reader,
            registry,
            provider,
        })
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn reader(&self) -> &SharedReader {
        &self.reader
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing is left to export; a second shutdown's error would tell nobody anything.
        let _ = self.provider.shutdown();
    }
}

/// The groups of a process: one that stays, and those that models and versions have. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Groups {
    inner: Arc<Inner>,
}

struct Inner {
    resource: Resource,
    lasting: Arc<Group>,
    others: Mutex<Vec<Weak<Group>>>,
}

impl Groups {
    /// # Errors
    /// [`TelemetryError::Setup`] if the exporter refuses its registry.
    pub(crate) fn new(resource: Resource, room: usize) -> Result<Self, TelemetryError> {
        let lasting = Arc::new(Group::new(resource.clone(), move |_| room)?);
        Ok(Self {
            inner: Arc::new(Inner {
                resource,
                lasting,
                others: Mutex::new(Vec::new()),
            }),
        })
    }

    /// The group of what lives as long as the process.
    pub(crate) fn lasting(&self) -> &Arc<Group> {
        &self.inner.lasting
    }

    /// A group that is read while somebody holds it.
    pub(crate) fn open(&self, room: impl Fn(&str) -> usize + Send + Sync + 'static) -> Arc<Group> {
        match Group::new(self.inner.resource.clone(), room) {
            Ok(group) => {
                let group = Arc::new(group);
                let mut others = self.inner.others.lock();
                others.retain(|other| other.strong_count() > 0);
                others.push(Arc::downgrade(&group));
                group
            }
            // A registry of its own refuses nothing. Were it to, series that stay are better than none.
            Err(error) => {
                tracing::error!(%error, "series will outlive their model");
                Arc::clone(self.lasting())
            }
        }
    }

    /// All groups there are, the lasting one first.
    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        let others = self.inner.others.lock();
        std::iter::once(Arc::clone(self.lasting()))
            .chain(others.iter().filter_map(Weak::upgrade))
            .collect()
    }

    /// What Prometheus is told, a metric's series together and the metrics in order.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for mut family in self.all().iter().flat_map(|group| group.registry.gather()) {
            match families.get_mut(family.name()) {
                Some(known) => known.mut_metric().extend(family.take_metric()),
                None => {
                    families.insert(family.name().to_owned(), family);
                }
            }
        }
        families.into_values().collect()
    }
}
