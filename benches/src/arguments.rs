//! Command line arguments of the model benchmarks: `small --device libtorch --rounds 7`, and
//! numeric options of each benchmark.

use bpo::DeviceSpec;
use bpo::burn::tensor::{DType, FloatDType};
use bpo::model::LoadOptions;

use crate::shape::Preset;
use crate::timed_process::TimedProcess;

/// Arguments of a benchmark.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The arguments as given, to start this program again.
    pub all: Vec<String>,
    /// Dimensions of the model.
    pub preset: Preset,
    /// Device of bpo.
    pub device: DeviceSpec,
    /// Type of weights and activations, of bpo and of the peer.
    pub dtype: FloatDType,
    /// Number of timed rounds.
    pub rounds: usize,
    /// The variant to run, if this process is timed by another one.
    pub way: Option<String>,
}

impl Arguments {
    /// Reads the arguments of this process. `numbers` are the numeric options of the benchmark, by
    /// name, and `texts` its other options.
    ///
    /// # Panics
    /// Panics if an argument is invalid.
    pub fn read(numbers: &mut [(&str, &mut usize)], texts: &mut [(&str, &mut Option<String>)]) -> Self {
        let all: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let mut read = Self {
            all: all.clone(),
            preset: Preset::Small,
            device: DeviceSpec::Flex,
            dtype: FloatDType::F32,
            rounds: 7,
            way: None,
        };
        let mut rest = all.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let own = numbers.iter_mut().find(|(own, _)| name.strip_prefix("--") == Some(own));
            let text = texts.iter_mut().find(|(own, _)| name.strip_prefix("--") == Some(own));
            if let Some((_, text)) = text {
                **text = Some(value().clone());
                continue;
            }
            match (name.as_str(), own) {
                (_, Some((_, number))) => **number = value().parse().expect("a number"),
                ("--rounds", _) => read.rounds = value().parse().expect("a number"),
                ("--device", _) => read.device = value().parse().expect("a device"),
                ("--bf16", _) => read.dtype = FloatDType::BF16,
                ("--way", _) => read.way = Some(value().clone()),
                (preset, _) => read.preset = Preset::named(preset).unwrap_or_else(|error| panic!("{error}")),
            }
        }
        read
    }

    /// Returns the arguments that start this program as the timed process `way`.
    pub fn with_way(&self, way: &str) -> Vec<String> {
        [self.all.as_slice(), &["--way".to_owned(), way.to_owned()]].concat()
    }

    /// Starts a script of `peers/` with `arguments`, followed by the device and the type of bpo.
    /// Returns `None` if `BPO_BENCH_PYTHON` is not set or torch does not have the device.
    pub fn peer(&self, script: &str, arguments: &[String]) -> Option<TimedProcess> {
        let device = match self.device {
            DeviceSpec::Flex | DeviceSpec::LibTorch => "cpu".to_owned(),
            DeviceSpec::Cuda(index) | DeviceSpec::LibTorchCuda(index) => format!("cuda:{index}"),
            _ => return None,
        };
        let dtype = if self.dtype == FloatDType::BF16 { "bf16" } else { "f32" };
        TimedProcess::python(script, &[arguments, &[device, dtype.to_owned()]].concat())
    }

    /// Returns the title line of the results. `of` describes the work.
    pub fn heading(&self, of: &str) -> String {
        self.heading_of(&format!("{:?}", self.preset), of)
    }

    /// Returns the title line of the results of a model that is no preset.
    pub fn heading_of(&self, model: &str, of: &str) -> String {
        let Self { device, dtype, rounds, .. } = self;
        format!("{model}, {of}, {device} {dtype:?}, {rounds} rounds")
    }

    /// Returns the size of a value in bytes.
    pub fn size(&self) -> usize {
        DType::from(self.dtype).size()
    }

    /// Returns the options with which bpo creates its model.
    pub fn options(&self) -> LoadOptions {
        LoadOptions::default().with_dtype(self.dtype)
    }
}
