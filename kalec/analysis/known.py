"""What is known of builtins and widely used libraries: which of their functions and methods leave their arguments alone.

A wrong entry loses a change; a missing one costs a copy.
"""

from typing import Final

from kalec.words import words

# Their results are plain and immutable, whatever they are given.
IMMUTABLE_RESULT: Final = words(
    """
    abs all any ascii bin bool bytes callable chr complex float format hasattr hash hex id input int isinstance
    issubclass len oct ord print range repr round str type
    """
)
PURE_BUILTINS: Final = IMMUTABLE_RESULT | words(
    """
    dict dir divmod enumerate filter frozenset getattr iter list map max min object pow property reversed set slice
    sorted staticmethod classmethod sum super tuple vars zip bytearray memoryview
    """
)
ITERATORS: Final = words("iter map zip filter enumerate reversed")
# They call what they are given first.
CALLING: Final = words("map filter functools.reduce")

# Methods that change their receiver for certain, keep what they are given, and leave that as it is.
CHANGING: Final = words(
    """
    append extend insert remove pop clear sort reverse add discard update setdefault popitem appendleft popleft
    extendleft intersection_update difference_update symmetric_difference_update __setitem__ __delitem__ write
    writelines put load_state_dict
    """
)
# The same for conventions of libraries: an estimator is fitted, and does not change its data.
RECEIVER_ONLY: Final = words(
    """
    fit fit_transform fit_predict partial_fit set_params writerow writerows
    """
)
# Methods that by convention change nothing (pandas, numpy, scikit-learn, text, containers), unless given `inplace`.
PURE_METHODS: Final = words(
    """
    head tail describe info mean sum std var min max median mode quantile count nunique unique value_counts copy
    astype reshape flatten ravel transpose tolist to_numpy to_list to_dict to_csv to_parquet to_json items keys
    values get index startswith endswith split rsplit splitlines join format strip lstrip rstrip lower upper title
    capitalize encode decode isin isna isnull notna notnull fillna dropna drop rename sort_values sort_index
    reset_index set_index groupby merge agg aggregate nlargest nsmallest sample corr cov diff shift cumsum cumprod
    rolling pivot_table pivot melt stack unstack assign clip abs round any all argmax argmin argsort dot predict
    predict_proba decision_function score transform inverse_transform get_params item isdigit isalpha replace find
    rfind zfill center partition union intersection difference issubset issuperset most_common total_seconds
    strftime isoformat date drop_duplicates duplicated select_dtypes memory_usage idxmax idxmin between map_values
    size ndim iterrows itertuples
    """
)
# Modules whose functions leave their arguments alone...
PURE_MODULES: Final = (
    "math", "cmath", "statistics", "json.dumps", "operator.itemgetter", "operator.attrgetter", "re", "string", "textwrap",
    "copy", "pprint", "os.path", "datetime", "numpy", "pandas", "sklearn.metrics", "sklearn.model_selection",
    "sklearn.datasets", "time", "platform", "hashlib", "base64", "collections.Counter", "collections.namedtuple",
    "pathlib", "functools", "typing", "dataclasses", "seaborn", "matplotlib",
)  # fmt: skip
# ... except these, which change their first one.
IMPURE_FUNCTIONS: Final = words(
    """
    numpy.copyto numpy.put numpy.place numpy.putmask numpy.fill_diagonal numpy.random.shuffle numpy.put_along_axis
    random.shuffle heapq.heappush heapq.heappop heapq.heapify bisect.insort operator.setitem operator.delitem
    """
)
# Functions whose result shares nothing with what they were given.
FRESH_FUNCTIONS: Final = words("copy.deepcopy json.dumps pickle.dumps")
FRESH_PREFIXES: Final = ("math.", "statistics.", "sklearn.metrics.", "os.path.", "time.", "re.")
