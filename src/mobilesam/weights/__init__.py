"""Which weights there are, where their files are, and how they are read, checked and fetched.

Nothing here touches the network but ``transfer``, which only ``store.pull`` uses.
"""

from mobilesam.weights.averaging import average_weights as average_weights
from mobilesam.weights.folders import HOME_VARIABLE as HOME_VARIABLE
from mobilesam.weights.folders import how_to_get as how_to_get
from mobilesam.weights.folders import how_to_get_text_model as how_to_get_text_model
from mobilesam.weights.folders import text_model_folder as text_model_folder
from mobilesam.weights.folders import weights_home as weights_home
from mobilesam.weights.folders import weights_path as weights_path
from mobilesam.weights.own import entry_of as entry_of
from mobilesam.weights.own import entry_of_network as entry_of_network
from mobilesam.weights.reading import check_published as check_published
from mobilesam.weights.reading import check_tensors as check_tensors
from mobilesam.weights.reading import decoder_path as decoder_path
from mobilesam.weights.reading import network_of_file as network_of_file
from mobilesam.weights.reading import read_detector as read_detector
from mobilesam.weights.reading import read_tensors as read_tensors
from mobilesam.weights.reading import read_weights as read_weights
from mobilesam.weights.reading import shipped_metadata as shipped_metadata
from mobilesam.weights.registry import ALIASES as ALIASES
from mobilesam.weights.registry import DEFAULT_MODEL as DEFAULT_MODEL
from mobilesam.weights.registry import ENTRIES as ENTRIES
from mobilesam.weights.registry import NOT_OFFERED as NOT_OFFERED
from mobilesam.weights.registry import WeightsEntry as WeightsEntry
